"""What `open_store` can't open, it refuses before it looks for a server."""

import pytest

from flowstore import StoreOptions, open_store


@pytest.mark.parametrize(
    ("arguments", "named", "error", "told"),
    [
        ((5,), {}, TypeError, "dsn=5: give open_store a connection string"),
        ((StoreOptions(),), {}, TypeError, r"open_store\(None, options\)"),
        (("dbname=none", {"schema_name": "a"}), {}, TypeError, "options={'schema_name': 'a'}"),
        (("dbname=none",), {"data_dir": "here"}, ValueError, "a dsn or a data_dir, not both"),
    ],
)
async def test_what_is_no_place_for_a_store_is_refused(arguments, named, error, told):
    with pytest.raises(error, match=told):
        async with open_store(*arguments, **named):
            raise AssertionError("a store was opened")
