"""`python -m sqap_vla_ros.cli`: the command line where `sqap-vla` is not installed."""

from sqap_vla_ros.cli import main

if __name__ == "__main__":
    main()
