"""offramp: a compiler for dynamic networks. Attributes load lazily, so that importing is quick."""
