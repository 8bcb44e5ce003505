"""The whole story, step by step, in a country of real processes."""

from __future__ import annotations

import pytest

from stelsel.demo.scenario.play import Step, Story
from stelsel.demo.scenario.story import STEPS


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"step {step.number}: {step.title}")
def test_the_story_is_as_told(story: Story, step: Step) -> None:
    assert step.play(story)
