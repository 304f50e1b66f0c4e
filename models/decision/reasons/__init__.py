"""Why a score is what it is, and in which words it is said."""
