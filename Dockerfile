# voxeld in a container. CPU by default; with a GPU:
#   docker build -t voxeld .
#   docker build -t voxeld:cuda --build-arg BASE_BUILD=nvidia/cuda:13.0.2-cudnn-devel-ubuntu24.04 \
#                --build-arg BASE_RUN=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .
#   docker run --rm -p 127.0.0.1:8790:8790 -v /data:/data:ro -v voxeld-state:/var/lib/voxeld voxeld
# No --ipc=host and no --shm-size: samples travel through memfds, not /dev/shm.
ARG BASE_BUILD=debian:bookworm-slim
ARG BASE_RUN=debian:bookworm-slim

FROM ${BASE_BUILD} AS build
WORKDIR /src
COPY scripts/packages.txt scripts/packages.txt
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      $(awk '$1 == "build" {print $2}' scripts/packages.txt) && \
    rm -rf /var/lib/apt/lists/*
COPY . .
RUN cmake --preset release -DVX_BUILD_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr && \
    cmake --build --preset release && \
    DESTDIR=/out cmake --install build/release

FROM ${BASE_RUN}
COPY scripts/packages.txt /tmp/packages.txt
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      $(awk '$1 == "run" {print $2}' /tmp/packages.txt) && \
    rm -rf /var/lib/apt/lists/* /tmp/packages.txt && \
    useradd --system --home-dir /var/lib/voxeld --create-home voxeld
COPY --from=build /out/ /
USER voxeld
VOLUME /var/lib/voxeld
EXPOSE 8790
# SIGTERM drains: the running training is checkpointed and goes on at the next start.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/voxeld"]
CMD ["serve", "--state", "/var/lib/voxeld", "--data", "/data", "--listen", "0.0.0.0:8790"]
