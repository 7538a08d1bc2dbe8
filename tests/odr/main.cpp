int first();
int second();

int main() { return first() == second() ? 0 : 1; }
