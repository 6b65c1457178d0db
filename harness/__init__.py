"""Load open-weight models through vLLM, measure capability and resistance to hijacking, compare origins."""

__version__ = "0.2.0"
