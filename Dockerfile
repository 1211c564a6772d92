# JupyterLab with everything that the pipeline, the explorers and the course need. Not built yet: docs/install.md.
#   docker build -t acm-companion . && docker run --rm -p 127.0.0.1:8888:8888 acm-companion
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 acm && install -d -o acm -g acm /home/acm/companion
USER acm
WORKDIR /home/acm/companion
COPY --chown=acm:acm requirements.lock ./
# torch's CPU build first: the lock alone would bring CUDA, several GB
RUN python -m venv /home/acm/venv \
 && /home/acm/venv/bin/pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
 && /home/acm/venv/bin/pip install --no-cache-dir -r requirements.lock
ENV PATH="/home/acm/venv/bin:$PATH" OMP_NUM_THREADS=1
COPY --chown=acm:acm . .
# `make` looks for .venv, and for the mark that it is complete
RUN ln -s /home/acm/venv .venv && pip install --no-deps --no-build-isolation -e . && touch .venv/installed && acm check
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks/start.ipynb"]
