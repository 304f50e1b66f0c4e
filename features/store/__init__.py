"""Where slices are kept between batches and between workers."""
