"""Programs of other people that use multiprocessing's Pipe heavily, with ours in its place.

Each runs with the stock Pipe as well, and must do the same with both.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import time

import ductworks.connection
import gymnasium
import numpy as np
import pebble
import pytest
from gymnasium.vector import AsyncVectorEnv
from support import PATIENCE


@pytest.fixture(params=["stock", "ours"])
def made(request, monkeypatch):
    """Every Pipe of multiprocessing is of the one module or the other; gives all that were made."""
    modules = {"stock": multiprocessing.connection, "ours": ductworks.connection}
    make, made = modules[request.param].Pipe, []

    def pipe(duplex=True):
        ends = make(duplex)
        made.extend(ends)
        return ends

    monkeypatch.setattr(multiprocessing.connection, "Pipe", pipe)
    yield made
    assert made
    kind = modules[request.param].Connection
    assert all(isinstance(end, kind) for end in made)


# gymnasium: environments in processes of their own, each at the other end of a Pipe


class Walk(gymnasium.Env):
    """A walk on a line, with observations large enough to cross as buffers beside their pickle."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (5000,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)
    goal = 7

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = float(self.np_random.integers(0, 3))
        return self.observe(), {"pid": os.getpid()}

    def step(self, action):
        self.place += int(action) - 1 + self.np_random.normal() / 10
        done = abs(self.place) >= self.goal
        return self.observe(), -abs(self.place), bool(done), False, {"place": self.place}

    def observe(self):
        return np.full(5000, self.place)


def rollout(shared_memory, context):
    environments = AsyncVectorEnv([Walk] * 3, shared_memory=shared_memory, context=context)
    try:
        observations, _ = environments.reset(seed=7)
        history = [observations.copy()]
        rng = np.random.default_rng(1)
        for _ in range(25):
            observations, rewards, *_ = environments.step(rng.integers(0, 3, size=3))
            history += [observations.copy(), np.asarray(rewards)]
        assert environments.call("goal") == (7, 7, 7)
        environments.set_attr("goal", 2)
        assert environments.get_attr("goal") == (2, 2, 2)
        return history
    finally:
        environments.close()


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("shared_memory", [True, False])
def test_gymnasium_environments_run_on_the_pipe(made, shared_memory, context):
    expected = solo_rollout()
    history = rollout(shared_memory, context)
    assert len(history) == len(expected)
    for ours, theirs in zip(history, expected):
        assert np.array_equal(ours, theirs)


def solo_rollout():
    """The same walk without any process."""
    environments = gymnasium.vector.SyncVectorEnv([Walk] * 3)
    observations, _ = environments.reset(seed=7)
    history = [observations.copy()]
    rng = np.random.default_rng(1)
    for _ in range(25):
        observations, rewards, *_ = environments.step(rng.integers(0, 3, size=3))
        history += [observations.copy(), np.asarray(rewards)]
    return history


def test_an_error_in_a_gymnasium_environment_reaches_its_user(made):
    environments = AsyncVectorEnv([Walk, Broken], context="fork")
    try:
        environments.reset(seed=1)
        with pytest.raises(LookupError, match="broken on purpose"):
            environments.step([1, 1])
    finally:
        environments.close(terminate=True)


class Broken(Walk):
    def step(self, action):
        raise LookupError("broken on purpose")


# pebble: pools and single processes with timeouts, all over one-way Pipes and poll(2)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_pebble_pools_run_on_the_pipe(made, context):
    context = multiprocessing.get_context(context)
    with pebble.ProcessPool(max_workers=2, context=context) as pool:
        future = pool.map(square, range(40), chunksize=3, timeout=PATIENCE)
        assert list(future.result()) == [number * number for number in range(40)]
        large = np.arange(300_000)
        assert pool.schedule(total, args=(large,)).result(PATIENCE) == large.sum()
        with pytest.raises(ZeroDivisionError):
            pool.schedule(fail).result(PATIENCE)
        with pytest.raises(concurrent.futures.TimeoutError):
            pool.schedule(time.sleep, args=(PATIENCE,), timeout=0.2).result(PATIENCE)
        with pytest.raises(pebble.ProcessExpired):
            pool.schedule(os._exit, args=(3,)).result(PATIENCE)
        assert pool.schedule(square, args=(12,)).result(PATIENCE) == 144


def test_pebble_processes_run_on_the_pipe(made):
    @pebble.concurrent.process(timeout=PATIENCE, context=multiprocessing.get_context("fork"))
    def double(value):
        return value * 2

    assert double([1, "x" * 200_000]).result() == [1, "x" * 200_000] * 2


def square(number):
    return number * number


def total(numbers):
    return numbers.sum()


def fail():
    return 1 / 0
