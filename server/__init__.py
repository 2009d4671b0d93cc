"""The processes of `tillgate serve` and `tillgate worker`: gunicorn, its worker class, job worker, maintenance, logs."""
