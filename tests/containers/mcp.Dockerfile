# The example MCP server beside the broker: its own image, from the same base.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
COPY wheels /wheels
RUN python3 -m venv /opt/shop \
    && /opt/shop/bin/pip install --no-cache-dir --no-index --find-links /wheels --requirement /wheels/requirements.txt
COPY broker /opt/shop/source/broker
ENV PYTHONPATH=/opt/shop/source \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["/opt/shop/bin/python"]
