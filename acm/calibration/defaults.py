"""What calibration takes where nothing else is said: the same for functions, profiles and the command line."""

T = 0.7  # temperature of Eq. 2
SHIFT = "layer"  # as in the paper's released code
ESTIMATOR = "plug-in"  # as in the paper's released code
FIELD = "question"  # of a JSONL file's lines; the paper does not say which of s1K's it took
CLUSTERS = 20  # K-means clusters of the texts, as in the paper
PER_CLUSTER = 5  # texts drawn from each cluster, as in the paper
TEXT_SEED = 54  # of the choice of texts
SEED = 0  # of the controls
DTYPE = "float32"  # of the computation
DEVICE = "cpu"
THREADS = 1  # for the estimates
