"""What people's programs use: tasks, their parameters and results.

It runs inside of tasks, in whatever environment their projects need. So all of it keeps to the
standard library and to Python 3.9, and asks whoever runs the task for everything else.
"""
