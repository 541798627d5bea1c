"""Programs on their way from a compiler's cache to an artifact, and into workers' caches."""

from batchneuron.backends.neuron_neffs import collect_neffs, link_neffs, list_compiled


def test_a_cache_becomes_an_artifact_and_a_cache_again(tmp_path):
    source, artifact, cache = tmp_path / "a", tmp_path / "artifact", tmp_path / "b"
    artifact.mkdir()
    (source / "ab" / "cd").mkdir(parents=True)
    (source / "ab/cd/abcd.neff").write_bytes(b"one")
    (source / "flat%2F.neff").write_bytes(b"two")
    (source / "ab/cd/abcd.lock").touch()
    assert collect_neffs(source, artifact) == 2
    assert all(path.is_file() for path in artifact.iterdir())
    link_neffs(artifact, cache)
    link_neffs(artifact, cache)
    assert (cache / "ab/cd/abcd.neff").read_bytes() == b"one"
    assert (cache / "flat%2F.neff").read_bytes() == b"two"
    assert len([path for path in cache.rglob("*") if not path.is_dir()]) == 2


def test_what_a_worker_compiled_itself_is_told_from_what_was_linked(tmp_path):
    artifact, cache = tmp_path / "artifact", tmp_path / "cache"
    artifact.mkdir()
    (artifact / "known.neff").write_bytes(b"known")
    link_neffs(artifact, cache)
    assert list_compiled(cache) == []
    (cache / "new.neff").write_bytes(b"new")
    assert list_compiled(cache) == ["new.neff"]


def test_a_link_to_an_artifact_that_is_gone_is_mended(tmp_path):
    artifact, cache = tmp_path / "artifact", tmp_path / "cache"
    artifact.mkdir()
    (artifact / "x.neff").write_bytes(b"x")
    link_neffs(artifact, cache)
    artifact.rename(tmp_path / "moved")
    assert not (cache / "x.neff").exists()
    link_neffs(tmp_path / "moved", cache)
    assert (cache / "x.neff").read_bytes() == b"x"
