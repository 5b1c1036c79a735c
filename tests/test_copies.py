"""A codec goes where objects go: into copies, processes and workers, each with its own networks."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading

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


def fork(function):
    """Decorates a test that forks, where that is possible."""
    # Python 3.12 and later warn of any fork in a process that has threads.
    quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")(quiet(function))


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


@fork
def test_the_child_of_a_fork_can_use_what_its_parent_used(threaded, speech):
    """The parent's threads are not there, and its sessions wait for them when they are freed."""
    tokens, samples = there_and_back(threaded, speech[:8000])
    encoder = threaded.stream_encoder()
    begun = encoder.push(speech[:3000])
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child():
        queue.put(np.concatenate([begun, encoder.push(speech[3000:8000]), encoder.finish()]))
        queue.put(there_and_back(threaded, speech[:8000]))

    process = context.Process(target=child)
    process.start()
    process.join(400)
    alive = process.is_alive()
    process.kill()
    process.join()
    assert not alive and process.exitcode == 0
    assert np.array_equal(queue.get(), tokens)
    got_tokens, got = queue.get()
    assert np.array_equal(got_tokens, tokens) and np.array_equal(got, samples)
    assert np.array_equal(threaded.to_tokens(speech[:8000]), tokens)


@fork
def test_forks_while_other_threads_load_and_run_codecs(small_model, speech):
    speech = speech[:4096]
    codec = pcodec.load(str(small_model), threads=2)
    tokens, samples = there_and_back(codec, speech)
    ended = threading.Event()

    def load_and_run():
        while not ended.is_set():
            there_and_back(pcodec.load(str(small_model), threads=2), speech)

    def child():
        got_tokens, got = there_and_back(codec, speech)
        same = np.array_equal(got_tokens, tokens) and np.array_equal(got, samples)
        sys.exit(0 if same else 1)

    threads = [threading.Thread(target=load_and_run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
            process.join(120)
            process.kill()
            process.join()
            assert process.exitcode == 0
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@fork
def test_a_data_loader_takes_it_into_its_workers(threaded, speech):
    data = pytest.importorskip("torch.utils.data")

    class Tokens(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return threaded.to_tokens(speech[i * 4000 : (i + 1) * 4000]).astype(np.int64)

    loader = data.DataLoader(
        Tokens(), batch_size=1, num_workers=1, multiprocessing_context="fork", timeout=400
    )
    for i, batch in enumerate(loader):
        assert np.array_equal(batch[0], threaded.to_tokens(speech[i * 4000 : (i + 1) * 4000]))
