"""How files of pictures and videos end: the one list, for folders, archives, data sets and ids of captions."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""What counts as a still picture in a folder; .gif counts as a video."""

VIDEO_SUFFIXES = (
    # the usual ones first: where a name lacks its suffix, this is the order in which files are looked for
    *(".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ts", ".gif"),
    *(".3g2", ".3gp", ".asf", ".divx", ".dv", ".f4v", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v"),
    *(".mjpeg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".vob", ".y4m"),
)

MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, *sorted(IMAGE_SUFFIXES))
