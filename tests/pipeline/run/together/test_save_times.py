"""When runs that train at once are saved."""

import time

from pipeline.run.together import save_times
from pipeline.run.together.save_times import SaveTimes


def test_saving_takes_a_twentieth_of_the_time_since_the_last_save():
    assert SaveTimes(runs=0).is_due
    times = SaveTimes(runs=1)
    assert not times.is_due
    time.sleep(save_times.EXPECTED / save_times.PART)
    assert times.is_due, "the first save is due by the time that one is expected to take"
    with times.saving():
        time.sleep(0.02)
    assert not times.is_due
    time.sleep(20 * times.seconds)
    assert times.is_due
