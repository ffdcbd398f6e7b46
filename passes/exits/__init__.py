"""Certified early exits: choose, train, certify and insert them; see `find.find_exits`."""
