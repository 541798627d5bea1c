"""The interactive API: a few inputs at a time, over the same programs and artifacts as jobs.

pipelines.py        `pipeline()`, with the answers of transformers' pipelines
modeling.py         `NeuronModelFor…`, called with tensors
predictor.py        batches of columns, for engines that bring them
present.py          what each task takes and gives in Python
vectors.py          vectors stacked, and held against each other
saved_model.py      which model, held to which shapes, kept in which folder
mistakes.py         what is wrong with an option or a call, in words
older_words.py      words of optimum-neuron and transformers 4.57 that are no options here
static_program.py   compiled or found, loaded, fed with tensors of any size
"""
