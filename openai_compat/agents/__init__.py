"""What people hand over, as a backend: functions, generators and objects, and what is wrapped around them."""
