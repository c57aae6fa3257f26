# docker build -t ccdni . && docker run --rm -v "$PWD:/work" ccdni run experiments/linedraw_dni.yaml
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin ccdni

FROM debian:bookworm-slim
COPY --from=build /build/target/release/ccdni /usr/local/bin/ccdni
WORKDIR /work
ENTRYPOINT ["ccdni"]
