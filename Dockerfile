# An image with the packages of requirements.txt and this project: docker build -t detr .
# docker run --gpus all --ipc host -v /path/to/coco:/coco -v /path/to/runs:/runs detr python main.py --data_path /coco --output_dir /runs/r50
# Torch's packages bring CUDA; the host needs NVIDIA's driver and its container toolkit alone.
FROM python:3.12-slim
ENV PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /detr
# Before the code, so that a change of code does not install all packages anew.
COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt
COPY . .
CMD ["python", "main.py", "--help"]
