"""Public data sets: fetched, checked, unpacked, and put into the layout that recipes read."""
