"""The parts of the loop that end-to-end runs cannot show: what counts as waiting for data."""

import time

import pytest

from supclap_jax.train.loop import Meter


class Step:
    """Stands for the metrics of a step in flight."""

    def __init__(self, done):
        self.done = done

    def is_ready(self):
        return self.done


def measure(config, done):
    meter = Meter(config)
    meter.step_finished()
    for _ in range(3):
        with meter.waiting_for_data((1, {"loss": Step(done)})):
            time.sleep(0.03)
        meter.step_finished()
    return meter.read()


def test_a_draw_counts_as_waiting_if_the_device_was_idle_at_its_end(config):
    starved, busy = measure(config, done=True), measure(config, done=False)
    assert starved["data_wait"] > 0.9
    assert busy["data_wait"] == 0
    assert starved["clips_per_second"] == pytest.approx(8 * starved["steps_per_second"])


def test_the_first_step_after_a_restart_is_not_timed(config):
    meter = Meter(config)
    meter.step_finished()
    assert meter.read() == {}
    meter.step_finished()
    assert "steps_per_second" in meter.read()
    meter.restart()
    meter.step_finished()
    assert meter.read() == {}
