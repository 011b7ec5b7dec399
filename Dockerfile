# stspbr on machines with NVIDIA GPUs. Its own kernels are NVIDIA Warp's: nothing is compiled, and no toolkit is needed.
#
# UNBUILT: no GPU and no Docker were at hand when this was written; neither the build nor the image has ever run.
#
#   docker build -t stspbr .
#   docker run --rm --gpus all -v "$PWD":/work -u "$(id -u):$(id -g)" stspbr doctor
#   docker run --rm --gpus all -v "$PWD":/work -u "$(id -u):$(id -g)" stspbr run demo
#
# nvdiffrast and tiny-cuda-nn, built from source beside it (this takes a while; mind nvdiffrast's licence, which is not
# Apache-2.0), for Turing to Blackwell, or for RTX 50xx alone:
#
#   docker build -t stspbr --build-arg LIBRARIES=compiled .
#   docker build -t stspbr --build-arg LIBRARIES=compiled --build-arg ARCHITECTURES="120" .
#
# The driver has to be 580 or newer.

# warp: nothing to compile; compiled: nvdiffrast and tiny-cuda-nn, too.
ARG LIBRARIES=warp
# The toolkit's major version is that of torch's CUDA: change CUDA and TORCH_INDEX together.
ARG CUDA=13.0.2
ARG UBUNTU=24.04

FROM ubuntu:${UBUNTU} AS warp
ARG TORCH_INDEX=cu130
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1
COPY constraints.txt /tmp/constraints.txt
RUN pip install --index-url "https://download.pytorch.org/whl/${TORCH_INDEX}" \
        "torch==$(sed -n 's/^torch==//p' /tmp/constraints.txt)"

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS compiled
# Compute capabilities without a dot: 75 Turing, 80 A100, 86 RTX 30xx, 89 RTX 40xx, 90 H100, 120 RTX 50xx.
ARG ARCHITECTURES="75;80;86;89;90;120"
# The versions that the adapters were written against.
ARG NVDIFFRAST=253ac4fcea7de5f396371124af597e6cc957bfae
ARG TINYCUDANN=6ee3546bda615f51abe684ce9edefeb414689135
# Compilers that run at once; each wants about 4 GB.
ARG MAX_JOBS=4
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH CUDA_HOME=/usr/local/cuda PIP_NO_CACHE_DIR=1
COPY --from=warp /opt/venv /opt/venv
COPY constraints.txt /tmp/constraints.txt
# setuptools 82 has no pkg_resources, which tiny-cuda-nn's setup imports.
RUN pip install "setuptools<82" wheel ninja "numpy==$(sed -n 's/^numpy==//p' /tmp/constraints.txt)"
# libcuda.so is the driver's and not here yet: tiny-cuda-nn is linked against the toolkit's stub.
RUN export LIBRARY_PATH="$CUDA_HOME/lib64/stubs:$LIBRARY_PATH" MAX_JOBS="$MAX_JOBS" \
    && export TORCH_CUDA_ARCH_LIST="$(echo "$ARCHITECTURES" | sed -E 's/([0-9]+)([0-9])/\1.\2/g')" \
    && pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast.git@${NVDIFFRAST}" \
    && export TCNN_CUDA_ARCHITECTURES="$ARCHITECTURES" \
    && pip install --no-build-isolation \
        "git+https://github.com/NVlabs/tiny-cuda-nn.git@${TINYCUDANN}#subdirectory=bindings/torch"

FROM ${LIBRARIES} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY stspbr /src/stspbr
RUN pip install -c /tmp/constraints.txt "/src[cuda,photos,usd,fleet]"

# The runtime of CUDA is in torch's wheels; the libraries that were compiled find it there.
FROM ubuntu:${UBUNTU}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv

# Any user may run it: compiled kernels go to folders that all can write. The last two lines are for --gpus.
ENV PATH=/opt/venv/bin:$PATH NUMBA_CACHE_DIR=/var/cache/numba WARP_CACHE_PATH=/var/cache/warp HOME=/home/stspbr \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 10001 stspbr \
    && mkdir -p /var/cache/numba /var/cache/warp /work \
    && chmod 1777 /var/cache/numba /var/cache/warp /work /home/stspbr
# Kernels are compiled for this machine's processor; on another one they are compiled anew at first use.
RUN stspbr doctor --warm && chmod -R a+rwX /var/cache/numba
USER stspbr
WORKDIR /work
ENTRYPOINT ["stspbr"]
CMD ["doctor"]
