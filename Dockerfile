# Two images from one build stage: `--target operator` and `--target dataplane`.
# BASE_IMAGE is any image with Python >= 3.11, pip and venv; the default's is built with
# profile-guided optimisation, which makes every request cheaper. The build stage compiles the data
# plane's hot path: where the base lacks gcc or Python's headers, apt-get adds them to that stage.
# No compiler gets into an image that it did not come with.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
RUN header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")') \
    && packages="$(command -v gcc >/dev/null || echo gcc libc6-dev) \
                 $([ -e "$header" ] || echo python3-dev)" \
    && if [ -n "$(echo $packages)" ]; then \
         apt-get update -q && DEBIAN_FRONTEND=noninteractive \
           apt-get install -qy --no-install-recommends $packages; \
       fi
COPY requirements requirements
RUN for place in build operator dataplane; do \
      python3 -m venv "/opt/$place" \
      && "/opt/$place/bin/pip" install --no-cache-dir --disable-pip-version-check \
           --only-binary :all: --no-deps --require-hashes -r "requirements/$place.txt" \
      || exit 1; \
    done
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY policy policy
COPY operator operator
COPY dataplane dataplane
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=true /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
    && python3 -m zipfile -e /tmp/wheel/*.whl /tmp/wheel
RUN for plane in operator dataplane; do \
      site=$("/opt/$plane/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))') \
      && cp -r /tmp/wheel/switchboard_policy "/tmp/wheel/switchboard_$plane"* "$site/" \
      && "/opt/$plane/bin/python" -m compileall -q "$site" \
      && "/opt/$plane/bin/pip" uninstall -q -y --disable-pip-version-check pip setuptools \
      || exit 1; \
    done

FROM ${BASE_IMAGE} AS operator
COPY --from=build /opt/operator /opt/operator
USER 65532:65532
ENTRYPOINT ["/opt/operator/bin/python", "-m", "switchboard_operator"]

# No Kubernetes library: a data plane speaks to Redis and to models, and to nothing else.
FROM ${BASE_IMAGE} AS dataplane
COPY --from=build /opt/dataplane /opt/dataplane
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/opt/dataplane/bin/python", "-m", "switchboard_dataplane"]
