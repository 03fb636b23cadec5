"""What people read: pages and files made from a stored run alone."""
