# What tests run in the cluster beside the product: fake models and callers, in its own image.
ARG DATAPLANE
FROM ${DATAPLANE}
COPY switchboard_cli /opt/tools/switchboard_cli
ENV PYTHONPATH=/opt/tools
ENTRYPOINT ["/opt/dataplane/bin/python"]
