"""`python -m kerash5.measure` does the job on stdin."""

from kerash5.measure._measure import main

if __name__ == "__main__":
    main()
