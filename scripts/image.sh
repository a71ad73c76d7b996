#!/usr/bin/env bash
# Builds the container image without a registry; with one, use `docker build`. buildah executes the same Dockerfile, but
# the base image is a Debian bookworm from debootstrap with its own Python. pip uses this machine's settings; SHARED are
# the folders that these refer to (a local index). Needs root, buildah and debootstrap; podman and runc run the image.
#
#   scripts/image.sh cpu|cuda [SHARED ...]      makes localhost/mixlaw:cpu or localhost/mixlaw:cuda
set -euo pipefail
cd "$(dirname "$0")/.."
if ! [[ ${1:-} =~ ^(cpu|cuda)$ ]]; then
    echo "usage: $0 cpu|cuda [SHARED ...]" >&2
    exit 2
fi
target=$1
base=localhost/mixlaw-base
shared=()
for path in "${@:2}"; do
    shared+=("--volume=$path:$path:ro")
done
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

make_base() {
    local box root path name
    box=$(buildah from scratch)
    root=$(buildah mount "$box")
    debootstrap --variant=minbase --include=ca-certificates,python3-dev,python3-venv bookworm "$root"
    for path in /etc/pip.conf /root/.config/pip/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [ ! -f "$path" ] || install -D --mode=644 "$path" "$root$path"
    done
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$box"
    for name in "${!PIP_@}"; do
        buildah config --env "$name=${!name}" "$box"
    done
    buildah run "${shared[@]}" "$box" -- sh -c \
        'python3 -m venv /usr/local && pip install --quiet --upgrade pip && pip uninstall --yes --quiet setuptools'
    buildah commit --rm --quiet "$box" "$base"
}

buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
revision=$(git describe --always --dirty --abbrev=12)
buildah build --format docker --layers "${shared[@]}" --from "$base" --build-arg "REVISION=$revision" \
    --target "$target" --tag "localhost/mixlaw:$target" .
