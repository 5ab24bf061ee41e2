"""One module per kind of figure. Each draws a plain frame, takes ``ax=None`` and returns the matplotlib axes."""
