"""`python -m sqap_vla_ros` is the command line where the executable `sqap-vla` is not installed."""

from sqap_vla_ros.cli import main

if __name__ == "__main__":
    main()
