"""The dashboard page in a real Chromium: panels, walks, states and looks."""
