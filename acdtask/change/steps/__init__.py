"""The steps of methods: each turns what is known of an image into clearer evidence of change. One file each."""
