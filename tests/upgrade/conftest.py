"""The node's fixtures, for tests of upgrades."""

from tests.node.conftest import make_node as make_node
from tests.node.conftest import pacs as pacs
