import pytest

pytest.register_assert_rewrite("flowstore.testing.contract")
