"""The codecs that `pcodec eval` can put beside each other."""
