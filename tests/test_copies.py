"""A codec goes where objects go: into copies, processes and workers, each with its own networks."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import pcodec


@pytest.fixture
def threaded():
    """A codec whose networks have threads, and have run."""
    codec = pcodec.load(threads=2)
    codec.from_tokens(codec.to_tokens(np.zeros(2000, np.float32)))
    return codec


def there_and_back(codec, samples):
    tokens = codec.to_tokens(samples)
    return tokens, codec.from_tokens(tokens)


def test_a_copy_gives_what_the_codec_gives(threaded, speech):
    tokens, samples = there_and_back(threaded, speech[:16000])
    for other in (
        copy.copy(threaded),
        copy.deepcopy({"codec": threaded})["codec"],
        pickle.loads(pickle.dumps(threaded)),
    ):
        assert other is not threaded and other.encoder is not threaded.encoder
        assert other.processor == threaded.processor and other.model == threaded.model
        assert np.array_equal(other.to_tokens(speech[:16000]), tokens)
        assert np.array_equal(other.from_tokens(tokens), samples)


def test_a_copy_keeps_how_it_was_loaded():
    codec = pcodec.load(vocoder="hifigan", threads=1)
    other = pickle.loads(pickle.dumps(codec))
    assert other.vocoder == "hifigan" and other.processor.threads == 1
    assert len(pickle.dumps(codec)) < 20_000  # no weights


FORK = pytest.mark.skip(reason="the child of a fork waits for ever now and then: to be mended")


class Subclass(pcodec.Codec):
    pass


def test_a_copy_is_of_the_same_class(codec):
    assert type(copy.deepcopy(Subclass(codec.model))) is Subclass


@pytest.mark.parametrize("method", ["spawn"])
def test_other_processes_can_use_it(threaded, speech, method):
    tokens, samples = there_and_back(threaded, speech[:8000])
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        work = pool.apply_async(there_and_back, (threaded, speech[:8000]))
        got_tokens, got = work.get(timeout=400)
    assert np.array_equal(got_tokens, tokens) and np.array_equal(got, samples)


@FORK
def test_the_child_of_a_fork_can_use_what_its_parent_used(threaded, speech):
    """As workers of a DataLoader do: nothing is pickled, and the parent's threads are not there."""
    tokens, samples = there_and_back(threaded, speech[:8000])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child():
        queue.put(there_and_back(threaded, speech[:8000]))

    process = context.Process(target=child)
    process.start()
    process.join(400)
    alive = process.is_alive()
    process.kill()
    process.join()
    assert not alive and process.exitcode == 0
    got_tokens, got = queue.get()
    assert np.array_equal(got_tokens, tokens) and np.array_equal(got, samples)
    assert np.array_equal(threaded.to_tokens(speech[:8000]), tokens)


@FORK
def test_a_data_loader_takes_it_into_its_workers(threaded, speech):
    data = pytest.importorskip("torch.utils.data")

    class Tokens(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return threaded.to_tokens(speech[i * 4000 : (i + 1) * 4000]).astype(np.int64)

    batches = list(data.DataLoader(Tokens(), batch_size=1, num_workers=1, timeout=400))
    for i, batch in enumerate(batches):
        assert np.array_equal(batch[0], threaded.to_tokens(speech[i * 4000 : (i + 1) * 4000]))
