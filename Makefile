# `make` lists the targets, `make settings` the settings. You give one as in `make run EPOCHS=3`, or by
# the environment as EPOCHS or CAPSNET_EPOCHS: make hands all of them on.
VAR ?= var
export VAR
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Packages come from .venv alone, whatever another project has left in the environment.
unexport PYTHONPATH PYTHONHOME CDPATH

venv = PATH="$$PWD/.venv/bin:$$PATH"
# Warnings of third-party packages are for their developers.
quiet = $(venv) PYTHONWARNINGS=ignore
# Gives settings to variables of the shell with their names.
settings = found=$$($(venv) python -m pipeline.configs --assign $(1)); eval "$$found"
commands = $(venv) python -m pipeline.make_commands

# The variables of each target that are not settings; those of set-up are of all.
of_setup = TFX_LINE PYTHON SHELL CXX UV_DEFAULT_INDEX HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy \
	https_proxy no_proxy CUDA_VISIBLE_DEVICES TF_CONFIG TF_CPP_MIN_LOG_LEVEL
of_data = IDX_DIR
of_run = $(of_data)
of_bench = $(of_data)
of_tensorboard = PORT LISTEN
of_serve = PORT LISTEN LOG_REQUESTS LOG_IMAGES
of_serve-docker = PORT
of_predict = IMAGE URL PORT LISTEN SHOW
of_rollback = VERSION LATEST PORT LISTEN
of_promote = VERSION PORT LISTEN
of_lineage = VERSION DATA
of_prune = KEEP DELETE PORT LISTEN
of_card = VERSION LATEST
of_kubeflow = CLUSTER
of_kubeflow-run = HOST NAMESPACE
of_lock = UPGRADE
of_study = CLAIM SMALL SEEDS
of_test-trixie = DEBIAN_MIRROR

# The variables on the command line. They win over CAPSNET_... in the environment.
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(given),$(if $(filter environment,$(origin CAPSNET_$(name))),\
	$(eval unexport CAPSNET_$(name))))
settings_given = $(filter-out $(of_setup) $(foreach goal,$(MAKECMDGOALS),$(of_$(goal))),$(given))
misplaced = $(filter $(foreach name,$(filter of_%,$(.VARIABLES)),$($(name))),$(settings_given))

# Two files of tests at a time, in the order of tests/conftest.py: most of a test's time is one process
# that starts another.
side_by_side = -n 2 --dist loadfile --no-loadscope-reorder

# Tests of what is the same with each line of TFX: documents, the form of the code, this file, the page
# in a browser, attacks on the server. And of what is run with one line: the benchmarks and the study.
any_line = benchmarks docs study serving/test_attacks.py serving/test_demo.py \
	serving/test_demo_two_digits.py serving/test_faults.py test_docs_site.py test_makefile.py \
	test_pipeline_graph.py test_rooms.py test_trixie.py test_troubleshooting.py test_tutorial.py \
	test_workflow.py

# The host of a server that listens at LISTEN, as other commands of this machine ask for it.
address = host=$${LISTEN:-127.0.0.1}; \
	case $$host in 0.0.0.0|::) host=127.0.0.1;; *:*) host="[$$host]";; esac

# What the servers need to know of the pipeline. Both of them read one models.config, which is made
# when it is not there or was moved, and which `make rollback` writes.
serving = $(call settings,pipeline_name serving_model_dir var request_log_dir); \
	folder=$$var/serving_config/$$pipeline_name; port=$${PORT:-8501}; \
	$(address); $(commands) check $@; \
	roll() { $(quiet) python -m serving.rollback --model_config_file "$$folder/models.config" \
		--model_name "$$pipeline_name" --model_base_path "$$serving_model_dir" \
		--url "http://$$host:$$port" "$$@"; }; \
	grep -qsF "base_path: \"$$serving_model_dir\"" "$$folder/models.config" || roll --keep

# What `make serve` keeps of the requests, as flags of the server.
logging = set --; [ -z "$$LOG_REQUESTS$$LOG_IMAGES" ] || { \
	echo "$$LOG_REQUESTS" | grep -qxE '0|1|0?[.][0-9]+|1[.]0+' || { \
		echo "LOG_REQUESTS is '$$LOG_REQUESTS': it must be the fraction to keep, from 0 to 1" >&2; exit 1; \
	}; \
	case "$${LOG_IMAGES:=yes}" in yes) images=true;; no) images=false;; \
		*) echo "LOG_IMAGES is $$LOG_IMAGES: it must be yes or no" >&2; exit 1;; esac; \
	quoted=$$(printf '%s' "$$request_log_dir" | sed "s/[\\']/\\\\&/g"); \
	printf '%s\n' "sampling_config { sampling_rate: $$LOG_REQUESTS }" \
		"log_collector_config { filename_prefix: '$$quoted/requests' }" \
		>"$$folder/request_log.config"; \
	set -- --request_log_config_file="$$folder/request_log.config" --request_log_images=$$images; \
}

# Removes what runs have written. Where that lies elsewhere, says so and does what is given.
clean_or = folder=$$(cd "$${CAPSNET_VAR:-$$VAR}" 2>/dev/null && pwd -P) || exit 0; \
	case "$$folder" in \
		"$$(pwd -P)"/?*) rm -rf "$$folder" ;; \
		*) echo "make $@ removes folders inside the project only: $$folder is yours to remove" >&2; \
			$(1) ;; \
	esac

.PHONY: help setup settings setup-bench setup-torch setup-kubeflow-lint setup-docs run data serve predict \
	rollback promote lineage drift card prune serve-docker kubeflow kubeflow-run bench study study-report \
	notebook docs test test-slow test-line test-trixie lint tensorboard lock clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv; other targets do it where needed (TFX_LINE=1.16 or 1.21, PYTHON=path)
	@tools/setup.sh
	@$(if $(misplaced),echo "make $(MAKECMDGOALS) has no variable $(misplaced)." >&2; exit 1)
	@$(if $(settings_given),$(commands) known $(settings_given) \
		--others $(foreach goal,$(MAKECMDGOALS),$(of_$(goal))))

settings: setup ## Show the settings in force, and why they are so
	@$(venv) python -m pipeline.configs

setup-bench: ## Make .venv-bench, what `make bench` needs besides
	@tools/setup.sh bench

setup-torch: ## Make .venv-torch, in which the peer CapsNet-pytorch can be measured (3 GB)
	@tools/setup.sh torch

setup-kubeflow-lint: ## Make .venv-kubeflow-lint, in which the files in kubeflow/ are checked
	@tools/setup.sh kubeflow-lint

setup-docs: ## Make .venv-docs, in which the site is built and the notebook runs
	@tools/setup.sh docs

run: data ## Train, evaluate and push a model (PRESET=quick|paper|tiny, IMAGES=folder and other settings)
	@set -e; $(call settings,cache_dir); \
	KERAS_HOME="$$cache_dir/keras" $(quiet) python pipeline/local_runner.py

data: setup ## Prepare the dataset (IDX_DIR=folder with the four files of mnist or fashion_mnist)
	@set -e; $(call settings,images dataset dataset_version data_dir); [ -z "$$images" ] || exit 0; \
	$(quiet) python -m components.datasets.prepare --dataset "$$dataset" --data_dir "$$data_dir" \
		$${dataset_version:+--version "$$dataset_version"} $${IDX_DIR:+--idx_dir "$$IDX_DIR"}

tensorboard: setup ## Show all trainings in the browser, running ones too (PORT=6006 LISTEN=localhost)
	@set -e; $(call settings,tensorboard_dir); \
	$(commands) check tensorboard; \
	[ -d "$$tensorboard_dir" ] || echo "Nothing is trained yet: reload the page when the run is at it."; \
	$(quiet) python -m start_tensorflow tensorboard --load_fast=false --host "$${LISTEN:-localhost}" \
		$${PORT:+--port "$$PORT"} --logdir "$$tensorboard_dir"

serve: setup ## Serve the pushed model, with a page for pictures (PORT=8501 LISTEN=127.0.0.1 LOG_REQUESTS=0.1)
	@set -e; $(serving); $(logging); echo "Loading; then show it pictures at http://$$host:$$port/demo/"; \
	$(quiet) python -m serving.server --host="$${LISTEN:-127.0.0.1}" --rest_api_port="$$port" \
		--model_config_file="$$folder/models.config" --model_config_file_poll_wait_seconds=1 \
		--allow_version_labels_for_unavailable_models=true \
		--enable_batching=true --batching_parameters_file=serving/config/batching.config \
		--monitoring_config_file=serving/config/monitoring.config --demo "$$@"

predict: setup ## Ask the server what a picture shows (IMAGE=file.png; URL=of the model; SHOW=frame.png)
	@set -e; [ -n "$$IMAGE" ] || { \
		echo "Name a picture: $$($(commands) show predict IMAGE=docs/seven.png)" >&2; exit 1; \
	}; \
	$(call settings,pipeline_name); $(address); \
	$(quiet) python -m serving.client \
		--url "$${URL:-http://$$host:$${PORT:-8501}/v1/models/$$pipeline_name}" \
		$${SHOW:+--show="$$SHOW"} -- "$$IMAGE" || { \
		[ $$? != 2 ] || [ -n "$$URL" ] || { \
			$(commands) check predict; \
			echo "Serve the model: $$($(commands) show serve $${PORT:+"PORT=$$PORT"} \
				$${LISTEN:+"LISTEN=$$LISTEN"})" >&2; \
		}; exit 1; \
	}

rollback: setup ## Serve the version before, also while the server runs (VERSION=number or LATEST=1)
	@set -e; $(serving); roll $${VERSION:+--version "$$VERSION"} $${LATEST:+--latest}

promote: setup ## Call a version stable, and serve the newest beside it as canary (VERSION=number)
	@set -e; [ -n "$$VERSION" ] || { \
		echo "Name the version: $$($(commands) show promote VERSION=1795412128)" >&2; exit 1; \
	}; \
	$(serving); roll --promote "$$VERSION"

lineage: setup ## Show what a pushed model was made of (VERSION=number), or what became of data (DATA=mnist)
	@$(quiet) python -m pipeline.lineage $${VERSION:+--version "$$VERSION"} $${DATA:+--data "$$DATA"}

drift: setup ## Compare what the model was asked since the last time with its training data
	@$(quiet) python -m pipeline.drift

card: setup ## Show the model card of a pushed version (VERSION=number), or the one written last (LATEST=1)
	@$(quiet) python -m pipeline.card $${VERSION:+--version "$$VERSION"} $${LATEST:+--latest}

prune: setup ## Show what no kept run needs, and remove it (KEEP=5 DELETE=yes PORT=8501)
	@$(address); $(quiet) python -m pipeline.prune --keep "$$KEEP" --delete "$$DELETE" \
		--url "http://$$host:$${PORT:-8501}"

serve-docker: setup ## Serve the pushed model by TensorFlow Serving itself, in docker (PORT=8501)
	@set -e; docker compose version >/dev/null 2>&1 || { \
		echo "make serve-docker needs docker and docker compose. What needs neither:" \
			"$$($(commands) show serve $${PORT:+"PORT=$$PORT"})" >&2; \
		exit 1; \
	}; \
	$(serving); MODEL_NAME="$$pipeline_name" MODEL_BASE_PATH="$$serving_model_dir" \
	MODELS_CONFIG_DIR="$$folder" PORT="$$port" \
	SERVING_USER="$$(id -u):$$(id -g)" docker compose -f serving/config/docker-compose.yml up

kubeflow: setup ## Compile for Kubeflow Pipelines, to build/kubeflow/ (CLUSTER=file)
	@$(quiet) python -m kubeflow.runner $${CLUSTER:+--cluster "$$CLUSTER"}
	@$(quiet) python -m kubeflow.drift $${CLUSTER:+--cluster "$$CLUSTER"}

kubeflow-run: setup ## Run what `make kubeflow` compiled on a cluster (HOST=http://... NAMESPACE=)
	@[ -n "$$HOST" ] || { echo "Name the server:" \
		"$$($(commands) show kubeflow-run HOST=http://localhost:8080)" >&2; exit 1; }; \
	$(quiet) python -m kubeflow.submit --host "$$HOST" $${NAMESPACE:+--namespace "$$NAMESPACE"}

bench: data setup-bench ## Measure steps, answers, XLA's count, a run and the server (15 minutes)
	@set -e; $(call settings,data_dir); \
	var=$$(mktemp -d); trap 'rm -rf "$$var"' EXIT; trap 'exit 1' INT TERM HUP; \
	measure() { echo; echo "python -m benchmarks.$$*"; $(quiet) python -m "benchmarks.$$@"; }; \
	measure train_step --data_dir "$$data_dir"; \
	measure inference; \
	measure cost; \
	measure scale --training --images 60000,600000 --classes 10 --pixels 28; \
	measure pipeline --data_dir "$$data_dir" --var "$$var"; \
	measure serving --turns 3 --signature serving_default --model "$$var"/serving_model/*/*; \
	measure serving --turns 3; \
	measure request_log

study: setup ## Train what the study of a claim still lacks (CLAIM=iterations SEEDS=number SMALL=yes)
	@[ -n "$$CLAIM" ] || { echo "Name a claim: $$($(commands) show study CLAIM=iterations)" >&2; exit 1; }; \
	$(quiet) python -m study.run --claim "$$CLAIM" $${SEEDS:+--seeds "$$SEEDS"} $${SMALL:+--small "$$SMALL"}

study-report: setup-docs ## Write docs/study.md and its charts from study/results.csv
	@.venv-docs/bin/python -m study.report

notebook: setup setup-docs ## Run docs/tutorial.ipynb on the pushed model
	@set -e; $(commands) check notebook; \
	$(call settings,var); unset CAPSNET_VAR; \
	VAR="$$var" PYTHONWARNINGS=ignore .venv-docs/bin/python tools/run_notebook.py docs/tutorial.ipynb

docs: setup-docs ## Build the site, with pages of the API, in build/docs
	@.venv-docs/bin/python tools/docs_site.py build/docs

test: setup ## Run the tests, the slow ones left out
	@$(venv) pytest -m 'not slow' $(side_by_side) --durations 10

test-slow: setup setup-kubeflow-lint setup-docs ## Run the slow tests
	@$(venv) pytest -m slow $(side_by_side) --durations 10

test-line: setup ## Run those tests that the line of TFX can change, the slow ones left out
	@$(venv) pytest -m 'not slow' $(side_by_side) $(addprefix --ignore=tests/,$(any_line)) --durations 10

test-trixie: setup ## Run the tests with TFX 1.21, in a Debian 13 in a folder (root only)
	@set -e; tools/trixie.sh --check; shared=$$PWD/.trixie/shared; $(venv); \
	python tests/support/line_results.py "$$shared/outside"; \
	tools/trixie.sh sh -ec 'OTHER_LINE="$$0/outside" make test-line; \
		PATH="$$PWD/.venv/bin:/usr/bin:/bin" \
		python tests/support/line_results.py "$$0/inside"' "$$shared"; \
	OTHER_LINE="$$shared/inside" pytest tests/e2e/test_other_line.py

lint: setup ## Check style and types
	@set -e; $(venv); ruff check; ruff format --check; mypy

lock: ## Resolve requirements/*.in again; versions stay unless UPGRADE=1
	@tools/setup.sh lock

clean: ## Remove all that runs have written (var/)
	@$(call clean_or,exit 1)

distclean: ## Remove .venv and the tools as well
	@rm -rf .venv .venv-bench .venv-torch .venv-kubeflow-lint .venv-docs .tools .trixie
	@$(call clean_or,exit 0)
