"""Having this file lets the tests import the helpers beside it."""
