"""One module per subcommand of ``geoseg``."""
