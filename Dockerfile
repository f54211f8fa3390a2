# Two images from one build stage: `--target operator` and `--target dataplane`.
# BASE_IMAGE is any image with Python >= 3.11, pip and venv; no compiler is needed or added.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY requirements requirements
RUN for plane in operator dataplane; do \
      python3 -m venv "/opt/$plane" \
      && "/opt/$plane/bin/pip" install --no-cache-dir --disable-pip-version-check \
           --only-binary :all: --no-deps --require-hashes -r "requirements/$plane.txt" \
      || exit 1; \
    done
COPY policy policy
COPY operator operator
COPY dataplane dataplane
RUN for plane in operator dataplane; do \
      site=$("/opt/$plane/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
      && cp -r policy/switchboard_policy "$plane/switchboard_$plane" "$site/" \
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
