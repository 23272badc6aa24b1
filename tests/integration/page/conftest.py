"""Fixtures: one browser, and one platform."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.integration.page.browsing import browsing
from tests.integration.page.platform import Platform, running_platform
from tests.support.stack import Stack


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as started:
        yield started


@pytest.fixture(scope="session")
async def platform(stack: Stack) -> AsyncIterator[Platform]:
    async with running_platform(stack) as started:
        yield started
