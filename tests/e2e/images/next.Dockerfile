# The next release of an image, for the purposes of an upgrade.
ARG RELEASE
FROM ${RELEASE}
LABEL org.opencontainers.image.version=2
