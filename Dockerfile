# Two images from one build stage: `--target operator` and `--target dataplane`.
# BASE_IMAGE is any image with Python >= 3.11, pip and venv; the default's is built with
# profile-guided optimisation, which makes every request cheaper. The build stage compiles the data
# plane's hot path: where the base lacks gcc or Python's headers, apt-get adds them to that stage.
# No compiler gets into an image that it did not come with.
#
# An image is the base, the libraries, and our own code: an edit pushes and pulls the last layer.
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
COPY requirements/build.txt requirements/operator.txt requirements/dataplane.txt requirements/
RUN for place in build operator dataplane; do \
      python3 -m venv "/opt/$place" \
      && "/opt/$place/bin/pip" install --no-cache-dir --disable-pip-version-check \
           --only-binary :all: --no-deps --require-hashes -r "requirements/$place.txt" \
      || exit 1; \
    done
RUN for plane in operator dataplane; do \
      site=$("/opt/$plane/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))') \
      # What nothing here imports, 100 MB of it: tests, a second client of Kubernetes, more of CEL.
      && rm -rf "$site/kubernetes/aio" \
      && find "$site" -type d -name tests -prune -exec rm -rf {} + \
      && find "$site/cel_expr_python/ext" -name '*.so' ! -name 'ext_strings.*' -delete \
      && echo /opt/switchboard >"$site/switchboard.pth" \
      && "/opt/$plane/bin/python" -m compileall -q "$site" \
      && "/opt/$plane/bin/pip" uninstall -q -y --disable-pip-version-check pip setuptools \
      || exit 1; \
    done
# The minute of compiling is for what is compiled: the operator is copied after it.
COPY pyproject.toml hatch_build.py ./
COPY policy policy
COPY dataplane dataplane
RUN /opt/build/bin/python hatch_build.py /tmp/compiled \
    && mkdir -p /code/dataplane \
    && cp -r policy/switchboard_policy dataplane/switchboard_dataplane /tmp/compiled/built/* \
         /code/dataplane \
    && /opt/dataplane/bin/python -m compileall -q /code/dataplane
COPY operator operator
RUN mkdir /code/operator \
    && cp -r policy/switchboard_policy operator/switchboard_operator /code/operator \
    && /opt/operator/bin/python -m compileall -q /code/operator

FROM ${BASE_IMAGE} AS operator
LABEL org.opencontainers.image.title="Switchboard operator" \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /opt/operator /opt/operator
COPY LICENSE /opt/operator/
COPY --from=build /code/operator /opt/switchboard
USER 65532:65532
ENTRYPOINT ["/opt/operator/bin/python", "-m", "switchboard_operator"]

# No Kubernetes library: a data plane speaks to Redis and to models, and to nothing else.
FROM ${BASE_IMAGE} AS dataplane
LABEL org.opencontainers.image.title="Switchboard data plane" \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /opt/dataplane /opt/dataplane
COPY LICENSE /opt/dataplane/
COPY --from=build /code/dataplane /opt/switchboard
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/opt/dataplane/bin/python", "-m", "switchboard_dataplane"]
