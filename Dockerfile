# seamd in a container.  deploy/setup.sh and CMake do the work, as on any Debian 12 machine;
# tests/chroot.sh runs the same steps where no container engine is at hand.
#
#   docker build -t seam .                          CPU image (the default target)
#   docker build -t seam:cuda --target runtime-cuda .
#   docker run --rm -p 50051:50051 -v /models:/models:ro -v ./seam:/etc/seam:ro seam
#   docker run --rm --gpus all -e SEAM_DEVICE=cuda:0 -p ... seam:cuda
#
# /etc/seam/seamd.conf holds the options (deploy/seamd.conf is the example).  -p reaches nothing but
# `listen = 0.0.0.0:50051`, for which the server wants a certificate and a key, or an explicit
# force-insecure behind a TLS front.  User 10001 must be able to read these files, the key too, and
# to write the volume of a state-dir (-v seam-state:/var/lib/seam, state-dir = /var/lib/seam).
ARG CUDA_IMAGE=nvidia/cuda:13.0.1

FROM debian:12-slim AS build
WORKDIR /src
COPY deploy/setup.sh deploy/packages.txt deploy/
RUN deploy/setup.sh build
COPY . .
RUN cmake --preset release -DSEAM_TESTS=OFF \
    && cmake --build --preset release \
    && DESTDIR=/image cmake --install build/release --prefix /usr --strip

FROM debian:12-slim AS runtime-base
COPY deploy/setup.sh deploy/packages.txt /opt/seam/deploy/
RUN /opt/seam/deploy/setup.sh run \
    && rm -rf /var/lib/apt/lists/* /opt/seam \
    && useradd --uid 10001 --home-dir /var/lib/seam --create-home --shell /usr/sbin/nologin seam \
    && install -d -o seam -g seam -m 0700 /run/seam
ENV SEAM_CONFIG=/etc/seam/seamd.conf SEAM_READY_FILE=/run/seam/ready
USER seam
WORKDIR /var/lib/seam
VOLUME /models
EXPOSE 50051
STOPSIGNAL SIGTERM
# The ready file appears when seamd serves; the connection proves that it still accepts.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["bash", "-c", "read -r address </run/seam/ready && exec 3<>/dev/tcp/127.0.0.1/${address##*:}"]
ENTRYPOINT ["/usr/bin/seamd"]

# The toolkit is copied, not installed, so that the image stays Debian 12 with its gRPC 1.51 (the
# ubuntu22.04 one: its programs need no newer glibc than Debian 12's).  A machine without a GPU
# builds this; sm_80, sm_90 and PTX are in one binary.
FROM ${CUDA_IMAGE}-devel-ubuntu22.04 AS cuda-devel
FROM build AS build-cuda
RUN deploy/setup.sh cuda
COPY --from=cuda-devel /usr/local/cuda /usr/local/cuda
RUN PATH=$PATH:/usr/local/cuda/bin cmake --preset cuda -DSEAM_TESTS=OFF \
    && cmake --build --preset cuda \
    && DESTDIR=/image-cuda cmake --install build/cuda --prefix /usr --strip \
    && install -D -m 0644 -t /image-cuda/usr/local/cuda/lib64 \
        $(LD_LIBRARY_PATH=/usr/local/cuda/lib64 ldd build/cuda/bin/seamd | awk '/libcublas/ { print $3 }')

# The CUDA runtime is linked in, the driver comes with the container runtime: cuBLASLt is all that is
# missing.
FROM runtime-base AS runtime-cuda
ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64 NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /image-cuda/ /

FROM runtime-base AS runtime
COPY --from=build /image/ /
