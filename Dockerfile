# stspbr on machines with NVIDIA GPUs, nvdiffrast and tiny-cuda-nn built from source.
#
# UNBUILT: no GPU and no Docker were at hand when this was written; neither the build nor the image has ever run.
#
#   docker build -t stspbr .                                              # for Turing to Blackwell; this takes a while
#   docker build -t stspbr --build-arg ARCHITECTURES="120" .              # for RTX 50xx alone
#   docker run --rm --gpus all -v "$PWD":/work -u "$(id -u):$(id -g)" stspbr doctor
#   docker run --rm --gpus all -v "$PWD":/work -u "$(id -u):$(id -g)" stspbr run demo
#
# The driver has to be 570 or newer. Mind nvdiffrast's licence: it is not Apache-2.0.

# The toolkit's major version is that of torch's CUDA: change CUDA and TORCH_INDEX together.
ARG CUDA=12.8.1
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build
ARG TORCH_INDEX=cu128
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
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH CUDA_HOME=/usr/local/cuda PIP_NO_CACHE_DIR=1

COPY constraints.txt /tmp/constraints.txt
RUN pip install --index-url "https://download.pytorch.org/whl/${TORCH_INDEX}" \
        "torch==$(sed -n 's/^torch==//p' /tmp/constraints.txt)" \
    && pip install setuptools wheel ninja numpy

# libcuda.so is the driver's and not here yet: tiny-cuda-nn is linked against the toolkit's stub.
RUN export LIBRARY_PATH="$CUDA_HOME/lib64/stubs:$LIBRARY_PATH" MAX_JOBS="$MAX_JOBS" \
    && export TORCH_CUDA_ARCH_LIST="$(echo "$ARCHITECTURES" | sed -E 's/([0-9]+)([0-9])/\1.\2/g')" \
    && pip install --no-build-isolation "git+https://github.com/NVlabs/nvdiffrast.git@${NVDIFFRAST}" \
    && export TCNN_CUDA_ARCHITECTURES="$ARCHITECTURES" \
    && pip install --no-build-isolation \
        "git+https://github.com/NVlabs/tiny-cuda-nn.git@${TINYCUDANN}#subdirectory=bindings/torch"

COPY pyproject.toml README.md LICENSE /src/
COPY stspbr /src/stspbr
RUN pip install -c /tmp/constraints.txt "/src[photos,usd]"

FROM nvidia/cuda:${CUDA}-runtime-ubuntu${UBUNTU}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv

# Any user may run it: Numba's compiled kernels go to a folder that all can write.
ENV PATH=/opt/venv/bin:$PATH NUMBA_CACHE_DIR=/var/cache/numba HOME=/home/stspbr
RUN useradd --create-home --uid 10001 stspbr \
    && mkdir -p /var/cache/numba /work \
    && chmod 1777 /var/cache/numba /work /home/stspbr
USER stspbr
WORKDIR /work
ENTRYPOINT ["stspbr"]
CMD ["doctor"]
