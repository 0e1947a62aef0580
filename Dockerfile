# The image of the gateway: the program, the C library, and the certificates of public CAs. No shell, no package manager.
#
#   docker build -t apig-grpc-gateway .

FROM rust:1.88-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release && deploy/image/root target/release/apig-grpc-gateway /image

FROM scratch
LABEL org.opencontainers.image.title="apig-grpc-gateway" \
      org.opencontainers.image.description="gRPC sidecar for the certificate operations of Huawei Cloud's API gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
USER 65532:65532
# gRPC, and the admin port; both listen on loopback unless `listen` and `admin-listen` say otherwise.
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# Of a gateway that listens elsewhere, APIG_GATEWAY_TARGET is the address.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["/usr/bin/apig-grpc-gateway", "health"]
ENTRYPOINT ["/usr/bin/apig-grpc-gateway"]
CMD ["serve"]
