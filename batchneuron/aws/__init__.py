"""AWS Batch: a job as an array of children, each of them `batchneuron run` over its slice."""
