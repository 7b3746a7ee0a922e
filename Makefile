# Each target sets up what it needs, and is quick when that is there.

PYTHON ?= python3
TORCH ?= auto
MUJOCO_GL ?= egl

# Test processes at a time, and rounds of the stress test.
WORKERS ?= 2
ROUNDS ?= 10

VENV := $(CURDIR)/.venv
KILTED := $(CURDIR)/.venv-kilted
BOOTSTRAP := $(PYTHON) environment/bootstrap.py --torch $(TORCH)

# Lifecycle, parameters, quality of service, services and timers: what the node asks of rclpy.
KILTED_TESTS := test/live/ros/test_node.py test/live/ros/test_stopping.py

# ROS on this machine only and in a domain of its own, whatever the shell says: nothing here may reach a lab's arm.
ROS_DOMAIN_ID := $(shell echo $$(( $$PPID % 50 + 1 )))
FOREIGN := PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH VIRTUAL_ENV \
	_ROS_WHEELS_BOOTSTRAP_COMPLETE ROS_STATIC_PEERS ROS_DISCOVERY_SERVER ROS_LOCALHOST_ONLY ROS_SECURITY_ENABLE \
	FASTDDS_DEFAULT_PROFILES_FILE FASTRTPS_DEFAULT_PROFILES_FILE
ISOLATED := env $(addprefix -u ,$(FOREIGN)) ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=$(ROS_DOMAIN_ID) \
	RMW_IMPLEMENTATION=rmw_fastrtps_cpp MUJOCO_GL=$(MUJOCO_GL) OMP_WAIT_POLICY=PASSIVE

.PHONY: help demo test test-fast test-live-stress test-kilted lint docs bench closed-loop workstation clean

help:
	@echo "make TARGET [TORCH=auto|cpu|cu130] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## a simulated arm, driven from its camera images over ROS 2; no ROS needed
	@$(BOOTSTRAP)
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m sqap_vla_ros demo

test: ## all tests
	@$(BOOTSTRAP) --for-tests
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m pytest -n $(WORKERS)

test-fast: ## the unit tests but the slow ones: no processes, no simulator, no waiting
	@$(BOOTSTRAP) --for-tests
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m pytest -n $(WORKERS) -m "not slow" test/unit

test-live-stress: ## the live tests ROUNDS times in a row, while a busy loop holds each core
	@$(BOOTSTRAP) --for-tests
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python test/stress.py $(ROUNDS)

test-kilted: ## what may differ in another distribution of ROS: the node's tests, under Kilted
	@$(BOOTSTRAP) --distro kilted --extras ik,test
	@$(ISOLATED) AMENT_PREFIX_PATH=$(KILTED) $(KILTED)/bin/python -m pytest $(KILTED_TESTS)

lint: ## format, lint, types, and the order of imports
	@$(BOOTSTRAP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy sqap_vla_ros
	$(VENV)/bin/lint-imports

docs: ## the documentation as a site that works offline, out/site/index.html
	@$(BOOTSTRAP) --for-docs
	@NO_MKDOCS_2_WARNING=1 $(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/mkdocs build --strict --quiet
	@echo "docs: open out/site/index.html; with its search: python3 -m http.server -d out/site"

bench: ## the figures of the README but success rates, into benchmarks/results
	@$(BOOTSTRAP)
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m benchmarks.node_overhead
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m benchmarks.demo_time
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m benchmarks.faults
	@$(ISOLATED) AMENT_PREFIX_PATH=$(VENV) $(VENV)/bin/python -m benchmarks.soak
	@$(VENV)/bin/python -m benchmarks.replay_scale
	@$(VENV)/bin/python -m benchmarks.cpu_speed
	@$(VENV)/bin/python -m benchmarks.cpu_full_size
	@$(VENV)/bin/python -m benchmarks.fidelity
	@$(VENV)/bin/python -m benchmarks.kinematics
	@$(VENV)/bin/python -m benchmarks.continuity
	@$(VENV)/bin/python -m benchmarks.deployment
	@$(VENV)/bin/python -m benchmarks.tables

closed-loop: ## success rates of the small model, into benchmarks/results (hours)
	@$(BOOTSTRAP)
	@$(ISOLATED) $(VENV)/bin/python -m benchmarks.closed_loop
	@$(ISOLATED) $(VENV)/bin/python -m benchmarks.robustness
	@$(ISOLATED) $(VENV)/bin/python -m benchmarks.planted_outliers
	@$(VENV)/bin/python -m benchmarks.tables

workstation: ## on a robot's computer, with its ROS 2 sourced: what `colcon build` and `ros2 launch` need
	@$(PYTHON) environment/workstation.py --torch $(TORCH)

clean: ## removes what the other targets made; results in out/ stay
	rm -rf .venv .venv-kilted .venv-workstation build install log *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
