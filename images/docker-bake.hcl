# Every image: TRITON_DIGEST=sha256:... UBUNTU_DIGEST=sha256:... REGISTRY=... docker buildx bake -f images/docker-bake.hcl
# Layers are zstd: of an image of 20 GB, unpacking takes longer than fetching, and zstd unpacks several times as fast as gzip.

variable "REGISTRY" { default = "registry.example.com/sonograph" }
variable "REVISION" { default = "" }
variable "WEIGHTS" { default = "" } # "whisper=small.en diffusion=REPOSITORY@COMMIT": into the images of these models
variable "TRITON_DIGEST" {
  validation {
    condition     = TRITON_DIGEST != ""
    error_message = "TRITON_DIGEST is what `docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:26.07-py3` prints."
  }
}
variable "UBUNTU_DIGEST" {
  validation {
    condition     = UBUNTU_DIGEST != ""
    error_message = "UBUNTU_DIGEST is what `docker buildx imagetools inspect docker.io/library/ubuntu:24.04` prints."
  }
}

target "common" {
  context   = "."
  platforms = ["linux/amd64"]
  output    = ["type=image,push=true,compression=zstd,force-compression=true,oci-mediatypes=true"]
  args = {
    VERSION       = TAG
    REVISION      = REVISION
    TRITON_DIGEST = TRITON_DIGEST
    UBUNTU_DIGEST = UBUNTU_DIGEST
  }
}

target "wheel" {
  context    = "."
  dockerfile = "images/wheel.Dockerfile"
  platforms  = ["linux/amd64"]
  args       = { UBUNTU_DIGEST = UBUNTU_DIGEST }
}

target "base" {
  context    = "."
  dockerfile = "images/base.Dockerfile"
  platforms  = ["linux/amd64"]
  args       = { TRITON_DIGEST = TRITON_DIGEST }
}

target "ingress" {
  inherits   = ["common"]
  dockerfile = "images/ingress.Dockerfile"
  contexts   = { wheel = "target:wheel" }
  tags       = ["${REGISTRY}/ingress:${TAG}"]
}

# Rendered by `sonograph render`: the tag and the images of the models.
variable "TAG" { default = "0.1.0-ray2.60.0-py3.12.3" }

group "default" { targets = ["ingress", "diffusion", "whisper", "all"] }

target "diffusion" {
  inherits   = ["common"]
  dockerfile = "images/model.Dockerfile"
  contexts   = { base = "target:base", wheel = "target:wheel" }
  args       = { IMAGE = "diffusion", MODELS = "diffusion", WEIGHTS = WEIGHTS }
  tags       = ["${REGISTRY}/diffusion:${TAG}"]
}

target "whisper" {
  inherits   = ["common"]
  dockerfile = "images/model.Dockerfile"
  contexts   = { base = "target:base", wheel = "target:wheel" }
  args       = { IMAGE = "whisper", MODELS = "whisper", WEIGHTS = WEIGHTS }
  tags       = ["${REGISTRY}/whisper:${TAG}"]
}

target "all" {
  inherits   = ["common"]
  dockerfile = "images/model.Dockerfile"
  contexts   = { base = "target:base", wheel = "target:wheel" }
  args       = { IMAGE = "all", MODELS = "diffusion whisper", WEIGHTS = WEIGHTS }
  tags       = ["${REGISTRY}/all:${TAG}"]
}
# End of the rendered part.
