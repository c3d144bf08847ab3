"""Speed, waiting and goodput, on a clock that the tests turn."""

import pytest

from supclap_jax.train.meter import Meter


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self):
        return self.now


class Step:
    """Stands for the metrics of a step in flight."""

    def __init__(self, done):
        self.done = done

    def is_ready(self):
        return self.done


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meter(clock):
    return Meter(batch_size=8, clock=clock, wall_clock=clock)


def run(meter, clock, steps, draw=0.0, step=1.0, done=False):
    for _ in range(steps):
        with meter.waiting_for_data((1, {"loss": Step(done)})):
            clock.now += draw
        clock.now += step
        meter.step_finished()


@pytest.mark.parametrize(("done", "data_wait"), [(True, 0.75), (False, 0.0)])
def test_a_draw_counts_as_waiting_if_the_device_was_idle_at_its_end(meter, clock, done, data_wait):
    run(meter, clock, steps=5, draw=3.0, step=1.0, done=done)
    read = meter.read(5)
    assert read["data_wait"] == data_wait
    assert read["steps_per_second"] == 0.25
    assert read["clips_per_second"] == 2.0


def test_the_first_step_after_a_restart_is_not_timed(meter, clock):
    run(meter, clock, steps=1, step=60.0)
    assert meter.read(1) == {}
    run(meter, clock, steps=3, step=2.0)
    meter.restart()
    clock.now += 50.0
    run(meter, clock, steps=1)
    run(meter, clock, steps=1, step=5.0)
    read = meter.read(6)
    assert read["step_seconds"] == 2.0
    assert read["step_seconds_max"] == 5.0
    assert read["steps_per_second"] == pytest.approx(4 / 11)


def test_goodput_counts_lost_time_and_lost_steps(clock):
    """Ten steps of 2 s of which 1 s is waiting; killed; continued after step 4, 40 s later."""
    meter = Meter(8, clock=clock, wall_clock=clock)
    run(meter, clock, steps=4, draw=1.0, step=1.0, done=True)
    first = meter.read(4)
    assert first["useful_seconds"] == 4.0
    assert first["goodput"] == 4 / 8
    run(meter, clock, steps=6, draw=1.0, step=1.0, done=True)
    clock.now += 40.0
    meter = Meter(8, 4, first["useful_seconds"], first_start=100.0, clock=clock, wall_clock=clock)
    run(meter, clock, steps=6, step=2.0)
    read = meter.read(10)
    assert read["useful_seconds"] == 4.0 + 6 * 2.0
    assert read["goodput"] == pytest.approx(16 / (20 + 40 + 12))
