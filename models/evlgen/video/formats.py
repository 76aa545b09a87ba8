"""Which container formats are opened: those that are whole in one file, by FFmpeg's names of its demuxers.

What is not listed would read other files or addresses (playlists: concat, hls, dash; image2 takes a name for a
pattern; sdp, rtsp), or is text. FFmpeg recognises a format by its content, whatever the file is called.
"""

_VIDEO = """
    3dostr 4xm apng asf asf_o av1 avi bink cavsvideo cdxl cine dhav dirac dnxhd dv dxa ea evc film_cpk flic flv
    gif gxf h261 h263 h264 hevc hnm ifv ingenient ipmovie ipu iv8 ivf kux live_flv lmlm4 lxf m4v matroska mjpeg
    mjpeg_2000 mlv mov mpeg mpegts mpegtsraw mpegvideo mpjpeg mtv mv mvi mxf mxg nsv nut nuv obu ogg pmp pva r3d rl2 rm
    roq rpl sga smjpeg smk swf thp tmv ty vc1 vc1test vmd vvc wc3movie webm wtv xmv yop yuv4mpegpipe
"""
_PICTURES = "bmp_pipe dpx_pipe gif_pipe j2k_pipe jpeg_pipe jpegxl_anim jpegxl_pipe png_pipe tiff_pipe webp_pipe"
_SOUND = "aac ac3 aiff amr ape au caf dsf dts eac3 flac mp3 mpc mpc8 tak tta w64 wav wv"  # "there is no video stream"

OPENED = ",".join(f"{_VIDEO} {_PICTURES} {_SOUND}".split())
"""As FFmpeg's option format_whitelist takes it."""

REFUSED = "it is a playlist, or of a format that is not opened: only the file itself is read"
HINT = "name the videos themselves"
